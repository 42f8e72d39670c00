"""What commands do and print, a file for each: imported when it is done, so that ``--help`` stays instant.

Most are reports: they ask a room for facts and show them as a table or as JSON. Nothing is decided here
that a program without a command line would need too.
"""
