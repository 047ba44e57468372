"""The real head with pretend agents, a pretend clock and every fault that a world file asks for, from one seed."""
