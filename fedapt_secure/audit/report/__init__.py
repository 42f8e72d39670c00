"""The audit's answer for its readers: a terminal, a program, an officer who files it and reads no code.

`text`, `json_answer` (``fedapt-audit/1``) and `html` (with the ``.j2`` templates) show the
same judgement; `wording` has the exact words of what is claimed, what is not, and what terms mean. `dossier`
gathers what is filed: `guarantees` (ε in words), `trust` (who saw what), `handed_over` (accuracies that an
institution gave). `annex` writes it as `dpia`, `registry` and `record_keeping`, by way of `markdown`.

Comes in: a finished `audit.judgement`. Nothing is decided here.
"""
