"""The institution's page: what is offered, what goes on, what was spent, for people who decide by it.

`desk` answers the process that faces browsers, on the side that may read the folder; `offer_file` is the
offer as the institution's process leaves it there, `rounds` follows the log, `budget` and `state` say what is
shown. `site` and the templates are the other side, started as ``python -m fedapt_client.page``: that process
opens no file.
"""
