"""Set up a run folder as separate people would: authority, keys, certificates, roster, images, policies.

`federation.prepare` does all of it; `run_folder` says where what lies, `enrolling` takes the steps of the
real commands, `planning`, `recipe` and `unsupervised` make the session's plan of options, `policies` each
institution's.

Comes in: `fedapt_secure.config.simulate`. Goes out: folders that the real commands could take over.
"""
