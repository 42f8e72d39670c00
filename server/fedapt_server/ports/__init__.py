"""Who may connect, and what one connection may do to us: whatever comes, memory and time stay bounded.

`rounds_port` is the I/O shell of the rounds (mutual TLS, websockets) and `front_door` listens for it;
`health_port` answers on the loopback interface. What is counted is counted without I/O: `lobby` (handshakes
that are not done), `admission_limits` (by address and name), `traffic` and `outbox` (one connection's
messages in and out). `refusals` writes down who was turned away, `library_log` what the websocket library
has to say.

Comes in: bytes of strangers. What a message means is decided elsewhere: imports neither `session` nor
`archive`.
"""
