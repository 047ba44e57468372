"""One pass per file, named `<verb>_<noun>`. Each maps a module to an equal one."""
