"""A new user's first hour, walked in an environment that holds nothing but the wheel."""
