"""The real command, from the outside: what it prints, leaves behind and exits with."""
