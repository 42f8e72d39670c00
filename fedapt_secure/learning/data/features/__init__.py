"""Image features, computed once: the image tower never changes, so training needs no image again.

`image_features` is what others ask; `encoding` takes from the cache what is there and sends the rest
through the tower; `store` is the cache on disk, of many `shard`s, `rows` the memory-mapped rows that
training reads; `pixels` serves methods that train the tower itself. A cache is as sensitive as the images.
"""
