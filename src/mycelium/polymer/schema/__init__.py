"""What values may be: types, their text, how they are inferred, unified and checked. Pure."""
