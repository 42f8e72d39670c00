"""What an institution does with its images: features, training under its budget, evaluation, finished model.

`learner.Learner` is the one that touches images; `session_model` gives it the session's CLIP and makes the
finished bundle; no other room of the client needs torch;
`encoding_watch` shows how far encoding has come; `fetch` gets a finished session's model from the coordinator
and checks it, `bundles` describes the one that lies in the folder.

Comes in: a session's configuration and the vector of the global model. Goes out: an update, clipped and
noised where the session is private. Who it goes to is not known here.
"""
