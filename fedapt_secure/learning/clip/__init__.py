"""The frozen CLIP: loading it, its two towers, the text of prompts, and the device it computes on.

`backbone.load_backbone` is the one way in: the shipped model and every other open_clip model take it.
`loading` makes them (`hub` fetches without noise, `published` knows what a checkpoint file does not say,
`tokenizers` and `prompt_tokens` where words stand), `identity` says what makes two of them the same.
`image_tower`, `text_tower`, `layers`, `shared_context` and `graphs` compute the same as open_clip with less
work, and tests hold them against it; `text` turns contexts and class names into text features (`templates`,
`class_names`, `context_words`); `device` and `feeding` are where and how much at once.

Knows no institution, no data set and no privacy.
"""
