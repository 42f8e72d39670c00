"""How an institution comes to a federation and leaves it: what travels by hand and on the enrolment port.

`join_string` is what people hand over, `enrolment` the requests and answers, `enrolment_refusals` why one is
refused, `revocation` the list of certificates that are void. crypto/ENROLMENT.md has all of it.
"""
