"""The files that ``server init`` writes for people: settings and an example of a session, explained."""

from typing import Any, Final

SERVER: Final = """\
# The coordinator's settings. Every setting is here; those behind a '#' show their default.
# After a change: restart the service, and after one of addresses also 'fedapt-secure server renew'.

# Name of the federation. It stands in the authority's certificate and does not change any more.
federation: {federation}

# The coordinator's own name, in its certificate and in logs.
name: {name}

# Host names and IP addresses under which institutions reach it, in the order in which to try them. They go
# into its certificate and into join strings.
addresses: {addresses}

# Address to listen on: 0.0.0.0 is every IPv4 interface, 127.0.0.1 this machine only.
host: {host}

# Rounds: mutual TLS, nobody gets a word in without a certificate. Open this port to the institutions.
port: {port}

# Enrolment, renewal and roster. Open it to the institutions while they enrol; it may stay open.
enrolment_port: {enrolment_port}

# Health and metrics (Prometheus), on 127.0.0.1 and nowhere else; 0 for none.
# health_port: 9090

# How many connections with a good certificate are held at once: each institution has one, and may have two.
# Each takes about half a megabyte of memory, and a message that is under way comes on top.
# max_connections: 1024

# How long an institution may take to answer a ping before its connection counts as broken, in seconds.
# answer_within_s: 60.0

# The largest message that is taken from an institution, in bytes (1 MiB to 512 MiB).
# max_message_bytes: 67108864

# How long certificates are valid, in days. They are due for renewal in their last third.
# certificate_days: 90

# The session that is run, relative to this folder.
# session: session.yaml

# The coordinator's log, relative to this folder.
# log: log.jsonl

# People are told (docs/pages.md) when a session begins (offer), when an institution does not
# take part (refusal), when a session ends (end) or cannot go on (failure), and of
# a certificate that expires (certificate): a command is run, or a webhook is posted, with the event, the
# session and a code, and nothing else. 'on' lists the events; all by default. Such as
# {{command: [/usr/local/bin/tell, us], webhook: "https://chat.example.org/hook", on: [offer, failure]}}
# notify: null

# The coordinator's page (docs/pages.md): where 'fedapt-secure server page' serves it; null: 127.0.0.1:8460.
# Other machines can reach it only with a TLS certificate and its key (PEM files), and from the networks that
# page_allow lists, such as [10.1.0.0/16]; page_names are host names besides its address. page_confined: no
# page where the kernel cannot keep the process that faces browsers from opening files (Linux can, from 5.13).
# page: null
# page_certificate: null
# page_key: null
# page_allow: []
# page_names: []
# page_confined: true

# Only where the log was lost: the head LOG:SEQ:HASH of it that others hold.
# log_continues: null

# For experiments only: makes the domain keys repeatable, and so known to everybody. Leave it alone.
# experiment_seed: null
"""

SESSION: Final = """\
# One session, as its operator decides it. Institutions see exactly this, with its hash, before they take
# part. The values below are an example that works: handwritten digits and the small CLIP of this package.

# What the session is for, in a sentence or two: the people of every institution read it before they agree.
purpose: "to try this package: handwritten digits, in three kinds of scanners"

# What is told apart, as the words stand in prompts. All institutions use the same list, in this order.
class_names: [zero, one, two, three, four, five, six, seven, eight, nine]

# Names of the domains (scanner, camera, style), in their order: as 'fedapt-secure server roster' lists them.
domains: {domains}

# Caption for the comparison without any learning; {} stands for the class.
zero_shot_template: "a photo of a digit {}"

# Any open_clip model; tiny ships with the package. Everybody needs the same weights. For another one
# 'fedapt-secure model-info --model NAME --pretrained TAG' prints these lines.
model: tiny
# open_clip's tag of the weights, or a file; null for tiny.
pretrained: null
# SHA-256 of the frozen weights. Each institution compares its own copy and refuses another one.
weight_hash: {weight_hash}
# What features follow from besides the weights: hashes of the architecture's settings and of the tokenizer,
# gelu or quick-gelu, and how images are prepared. Compared in the same way, and named where it differs.
model_identity:
  architecture: {architecture}
  activation: {activation}
  tokenizer: {tokenizer}
  image_size: {image_size}
  mean: {mean}
  std: {std}
  interpolation: {interpolation}
  resize_mode: {resize_mode}
  fill: {fill}
# W, the width of the model's text tower.
text_width: {text_width}
# D, the size of its joint embedding of image and text.
feature_size: {feature_size}

# What is trained: fedapt, or one of the methods it is compared with (promptfl, cocoop, fedclip,
# linear-probe, fedavg, fedprox). The last two train the whole image tower, need its size (model-info
# prints it), and allow no differential privacy.
method: fedapt
tower_values: 0

# Learned tokens of each prompt.
context_tokens: 16
# true: every class learns tokens of its own; false: one context for all.
class_specific: true

# Rounds of the session, and optimizer steps of each institution in a round.
rounds: 30
local_steps: 4
# Share of its records that an institution draws for a step: q of the privacy accounting.
sample_rate: 0.5
# Without differential privacy, as papers train: passes in batches of so many records, local_epochs a round,
# in place of local_steps draws. null: draws.
batch_size: null
local_epochs: 1
# The optimizer: SGD. linear: the learning rate goes from this to almost none at the last step; constant: it
# stays.
learning_rate: 3.0
learning_rate_schedule: linear
# text-features: one learning rate fits every model. loss: learning rates as papers state them.
gradient_units: text-features
momentum: 0.0
weight_decay: 0.0
# How strongly values are held to the round's start (FedProx); 0 for not at all.
proximal_weight: 0.0
# C: the gradient of each record is clipped to this norm before noise is added.
max_grad_norm: 0.5
# What class logits are divided by in the loss; 1 is the plain cross-entropy.
loss_temperature: 4.0
# Weight of the routing loss where gradients are clipped: routing is learned quickly, and needs little of C.
domain_loss_weight: 0.3

# How much of the untuned model the finished one keeps, 0 to 1: the more noise, the more pays. null: what
# follows from the budget and the count of records (or persons) that institutions are expected to have, and
# from how many they and the classes are; 0 without differential privacy. It costs no privacy, and whoever has
# the finished model can choose another one (docs/methods.md). delta: 2.5e-6 is what a policy allows a session
# where nobody changed it; null stands for 1 / (2 x records).
prior_weight: null
expected:
  epsilon: 8.0
  delta: 2.5e-6
  records: 200

# Whether this coordinator gets the finished bundle ('fedapt-secure server model'). Then it knows every domain
# key from the start; else only institutions do. With ckks it has no model to go with them.
bundle_for_coordinator: false

# Differential privacy. Institutions refuse a session without it unless their own policy allows that.
differential_privacy: true
# How updates are added up: masking (the default: tolerates dropouts and collusion below a bound), or ckks
# (hides the model from the coordinator too, tolerates no collusion at all).
secure_aggregation: masking
# Who takes part in a round: all, or one-per-domain: one institution of each domain, picked by a rule that
# everybody can compute beforehand. Each then plans its noise for its own rounds only: less noise, same ε.
participation: all
# Largest absolute change of a parameter that the sum can represent.
clip: 16.0

# Temperature of the routing of test images to domains.
temperature: 0.01
# How many domain keys there are; null: one a domain. With fewer, domains share keys; with more, institutions
# of one domain have their own.
keys: null
# What a key does to the prompt (multiply, as in the paper, or add), and what its numbers are drawn from
# (uniform, as in the paper, signed, normal, or contexts): the others are for experiments.
key_fusion: multiply
key_values: uniform
# Seed of the initial parameters; public.
initial_seed: 0
# Words that contexts start from, with the token embeddings of this model: 'fedapt-secure model-info --words
# "a photo of a"' prints the lines. null: random numbers.
initial_context: null

# Training without labels, which institutions need not have then; null: with labels. The first rounds train
# towards what the untuned model is sure of, the last towards what is said of neighbours (none of these under
# differential privacy). In place of null, for example:
# unsupervised:
#   confidence: 0.75         # the probability from which on the untuned model's answer counts
#   consistency_rounds: 0    # how many of the last rounds look at neighbours
#   augmentations: [flip, jitter, greyscale, blur]  # without flip where a mirrored image is another class
#   views: 4                 # augmented views of each image; each costs encoding it once
# and, to compare with papers (docs/unsupervised.md): consistency_loss, pseudo_label_mean, transductive.
unsupervised: null

# How long the coordinator waits, in seconds: for training, for every other phase of a round, and for
# missing institutions before a round. Who is late is left out of the round, not of the session.
round_timeout_s: 600.0
phase_timeout_s: 60.0
gather_timeout_s: 30.0
# So long the session waits for institutions that are out (they have not agreed yet, their images or disk
# want mending) where no round can take place without them: 14 days. 'server run --end-session' ends it sooner
return_timeout_s: 1209600.0
# What every institution's line carries at least, either way, in kbit/s, while all of a round use theirs (the
# coordinator's own line so many times this). What messages take at this rate is added to the three times.
minimum_rate_kbit_s: 128.0
"""

TINY_WEIGHTS: Final[dict[str, Any]] = {
    "weight_hash": "fd8e8d77a08b6af9fedd9e79ed3b22efb3d0617cde932db02b68016d4e9672d7",
    "model_identity": {
        "architecture": "30985d62d49ceed62a0159435ee2f06247238df6008389ae0b997e29869f810e",
        "activation": "gelu",
        "tokenizer": "e362a8b7d018318b4dc311584ab5bfb7881f5d3518667a36496ecf52866bf53f",
        "image_size": [32, 32],
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "interpolation": "bicubic",
        "resize_mode": "squash",
        "fill": 0,
    },
    "text_width": 64,
    "feature_size": 64,
}
"""The model in the package, for the example; computing it would take loading it."""
