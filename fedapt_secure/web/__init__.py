"""Pages that are served: to this machine unless somebody says otherwise, by a process that can do little.

Two processes. The one that runs the command (`serving`) may read the party's folder and faces no network; it
starts the other one (`process`, `application`), which faces browsers, and which the kernel keeps from opening
any file and from connecting anywhere (`landlock`). Between them is one socket with small messages (`pipe`).
`access` decides who may come in: one-time links, cookies, roles. What a page shows and does is its `site`.
"""
