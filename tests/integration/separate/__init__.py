"""Parties as processes of their own, as people run them: enrolment, sessions, attackers, kills."""
