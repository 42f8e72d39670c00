"""The signed log that every party writes and others check: lines, files, and what peers witness of it.

`line` is the exact form of one line, without I/O; `writer` chains and signs lines into `file`s of bounded
size; `reader` checks form, place, time and signature in one pass, `follower` reads on while one is written;
`heads` is what parties sign about each other's logs, `witness` what one log has seen of the others,
`line_hashes` finds a line's hash by number.

Written by client and server, read by the auditor, so it lies below them all. No torch; imports nothing of
ours but `fedapt_crypto`.
"""
