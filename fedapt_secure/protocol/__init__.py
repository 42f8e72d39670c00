"""What travels between coordinator and institutions: messages, session configuration, parameters.

`messages` has one frozen type each, decoded strictly; `stated` and `statements` what institutions sign
besides, `joining` what comes before anybody is a member; `session` is the plan that people choose and the
configuration that all sign; `parameters` is the flat vector of a method's tensors, `methods` its names and
sizes, `key_assignment` who holds which key, `initial_context` and `unsupervised` what plans say of them,
`class_names` when two names are one class, `reasons` why somebody does not take part, `headbook` what was
seen of others' logs. `transport` has the TLS and websocket settings of both ends, `tls_advice` what to tell
people, `clocks` whose clock is wrong.

Comes in: bytes of peers, none of them believed. No torch: the coordinator has none.
"""
