"""A configuration in and out of the app.

archive     everything in one file, written and read
importing   what such a file would change here, and doing it
"""
