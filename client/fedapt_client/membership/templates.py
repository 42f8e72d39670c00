"""The settings file that ``client enroll`` writes for the institution's people, explained line by line."""

from typing import Final

CLIENT: Final = """\
# This institution's settings; the coordinator cannot change any of them. Every setting is here; those behind
# a '#' show their default.

# Its name on the roster, as it was invited.
name: {name}

# Where the coordinator is reached: its rounds, and enrolment (renewal of certificates, roster).
host: {host}
port: {port}
enrolment_port: {enrolment_port}

# An outbound proxy that connects us, such as "http://proxy.example.org:3128"; null for none. TLS goes through
# it end to end: a proxy that opens TLS is refused.
proxy: {proxy}

# How long the coordinator may take to answer a ping before the connection counts as broken, in seconds.
# answer_within_s: 60.0

# The labelled images: a folder CLASS/IMAGE, or a CSV file with the header path,label. Relative to the folder
# in which the command is run, so better absolute. They never leave this machine.
data: {data}

# dicom: the PatientID of DICOM files says whose an image is, so that privacy is per person. It is turned into
# a keyed hash at once, and kept nowhere. null: the manifest's column subject says it, or nothing does.
# subjects: null

# How DICOM and NIfTI files are read (docs/data.md): which grey values are shown, centre and width, such as
# [40, 400]; which frame of several, from 1, or middle, or all of them as images; along which axis of a NIfTI
# volume, 0, 1 or 2, and which slice, from 1, or middle. Other files are read in one way.
# reading: {window: null, frame: middle, axis: 2, slice: middle}

# auto takes a GPU where there is one; or cpu, or cuda.
device: {device}

# What the frozen CLIP computes in: float32, bfloat16, or auto, which is bfloat16 on a GPU that has it.
# precision: auto

# What this institution spends in a session, at most session_epsilon and session_delta of policy.yaml. null:
# just that epsilon; and that delta, or 1 / (2 x declared records) where it is less.
# dp_epsilon: null
# dp_delta: null

# What it insists on, whatever the coordinator offers, and what its images may be used for in all: see there.
# policy: policy.yaml

# The record of what was spent, and the log; relative to this folder. An institution in several federations
# gives all of their folders one absolute path to one ledger: two ledgers know nothing of each other.
# ledger: ledger.sqlite
# log: log.jsonl

# The images' features, computed once. As sensitive as the images: keep it on a disk of this machine that is
# theirs too. Relative to this folder.
# cache: cache

# People are told (docs/pages.md) when a session waits for your people (offer), when this
# institution refuses something (refusal), when a session ends (end) or cannot go on (failure), and of
# a certificate that expires (certificate): a command is run, or a webhook is posted, with the event, the
# session and a code, and nothing else. 'on' lists the events; all by default. Such as
# {{command: [/usr/local/bin/tell, us], webhook: "https://chat.example.org/hook", on: [offer, failure]}}
# notify: null

# The institution's page (docs/pages.md): where 'fedapt-secure client run' serves it, such as 127.0.0.1:8460;
# null for none. Sessions then wait for what people decide on it. Other machines can reach it only with a TLS
# certificate and its key (PEM files), and from the networks that page_allow lists, such as [10.1.0.0/16];
# page_names are host names besides its address. page_confined: no page where the kernel cannot keep the
# process that faces browsers from opening files (Linux can, from 5.13 on).
# page: null
# page_certificate: null
# page_key: null
# page_allow: []
# page_names: []
# page_confined: true

# Only where the log was lost: the head LOG:SEQ:HASH of it that others hold.
# log_continues: null

# Every update leaves at the same time after its round's start, so that how long training took does not tell
# which images were in it.
# fixed_answer_time: true

# The coordinator's operator may ask what a session would be here ('server rehearse'): a code and coarse times
# leave, nothing is spent, nobody is asked, and the log says so.
# answer_rehearsals: true

# For experiments and rehearsals only: repeatable sampling without differential privacy, noise that follows
# from a seed (not private), and rounds in which to lose the connection on purpose (ROUND:PHASE). Leave them
# alone.
# experiment_seed: null
# insecure_deterministic_noise: false
# vanish_at: []
"""
