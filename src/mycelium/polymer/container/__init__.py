"""The portable form of a program: a `.pmr` file, its signatures, and the authority that vouches for signers."""
