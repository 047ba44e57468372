"""Programs: graphs of kernel calls, how Python functions become them, and their text form. Pure."""
