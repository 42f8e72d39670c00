"""The audit's answer for its readers: a terminal, a program, a page for somebody who reads no code.

`text`, `json_answer` (``fedapt-audit/1``) and `html` (with ``page.html.j2``, and `charts` in SVG) show the
same judgement; `wording` has the exact words of what is claimed, what is not, and what terms mean.

Comes in: a finished `audit.judgement`. Nothing is decided here.
"""
