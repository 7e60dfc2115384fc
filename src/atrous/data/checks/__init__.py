"""Checks of data: each is a function that yields the findings of one code; `CHECKS` of atrous.data lists them."""
