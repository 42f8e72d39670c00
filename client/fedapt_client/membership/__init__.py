"""How an institution comes to belong to a federation, and goes on to: keys, certificate, approved roster.

`enrolment` makes keys and requests and checks answers, without sockets; `desk` is the I/O shell that talks to
the coordinator's enrolment port; `rosters` compares a new roster with the approved one; `renewal` renews the
certificate while the institution runs; `own_times` is what the folder says about the time; `templates` has
the settings file that people get.

Comes in: join strings and the coordinator's answers, neither of which is believed before it is checked. No
torch; imports neither `session` nor `books`.
"""
