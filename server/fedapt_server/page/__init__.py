"""The coordinator's page: one screen for all institutions, their rounds, and who may take part.

`desk` answers the process that faces browsers, on the side that may read the folder; `rounds` follows the
log. `site` and the templates are the other side, started as ``python -m fedapt_server.page``: that process
opens no file. Nothing here can show what the coordinator does not know: no update, no image, no accuracy
reaches it.
"""
