"""Classify images with a finished model.

    python examples/predict_images.py model.safetensors scan-1.png scan-2.jpg

Images may be paths, the bytes of a file, or Pillow images; what cannot be used is named, and no error.
"""

import sys

import fedapt_secure


def main(bundle: str, *images: str) -> None:
    model = fedapt_secure.load(bundle)
    for answer in model.predict(images, top=3):
        if answer.skipped is not None:
            print(f"{answer.name}: skipped, {answer.skipped}")
            continue
        others = ", ".join(f"{label} {probability:.1%}" for label, probability in answer.top[1:])
        print(
            f"{answer.name}: {answer.label} {answer.probability:.1%} (then {others}), as in {answer.domain}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
