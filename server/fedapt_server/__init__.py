"""The coordinator: runs rounds and adds up protected updates; never sees one."""
