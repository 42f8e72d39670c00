"""The institution: keeps its images, keys and budget, and sends nothing but protected updates.

Rooms, in the order in which they may import each other: `session` (one session, without I/O), `books` (what
was promised and spent, on disk), `membership` (identity, certificate, roster), `training` (images, features,
the finished model). Around them, from below: `settings` and `narration` (what people set and read); from
above: `conduct` carries out what the session asks for, `runner` keeps in touch with the coordinator,
`status` and `doctor` answer questions about a folder, ``__main__`` is the process. Nothing here imports the
server.
"""
