"""A finished model in forms that other programs run: ONNX, TorchScript, open_clip alone.

`exporting` makes one form of one bundle in a folder and checks it before the folder has its name. `graphs`
says what a model computes, as tensor functions; `onnx_file` and `torchscript_file` write them, and
`open_clip_files` writes text features with a script that needs nothing of this package. `checking` compares
each form with our own predictions, `clip_facts` asks the CLIP what the files have to say of it,
`preprocessing` describes how pixels are made, and `card` writes the model card from what is known: the
bundle, logs, an evaluation.

Comes in: a bundle, its CLIP, logs and figures that somebody names. Knows no session and no training.
"""
