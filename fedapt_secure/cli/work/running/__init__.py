"""Commands that stay: what a terminal shows while a party runs, and pages and enrolment that are served.

`live_view` is the view of a terminal, `live_facts` what stands in it, `encoding_bar` the progress of images;
`page` serves a party's page, `enrolment_server` the enrolment port.
"""
