"""The text of each image, for bases that read text."""

from __future__ import annotations

from superlora_diffusion.data.records import ANONYMOUS_CLASS, ImageSet
from superlora_diffusion.errors import DataError

# A folder without class folders has the first, an npz of one class without class_names the second.
_NO_NAMES = ((ANONYMOUS_CLASS,), ("0",))


def captions_of(image_set: ImageSet, template: str | None) -> tuple[str, ...]:
    """One text an image, (N,): the set's own captions, else its class names in ``template``, else these alone.

    ``template`` has one ``{}``, where the name of the image's class goes, or is the text of all images.

    Raises:
        DataError: there are neither captions nor a template, and the only class has no name worth reading.
    """
    if image_set.captions is not None:
        return image_set.captions
    names = image_set.class_names
    if template is not None:
        names = tuple(template.replace("{}", name) for name in names)
    elif names in _NO_NAMES:
        raise DataError(
            f"{image_set.name}: has no captions, and its one class has no name ({names[0]!r}); a base that reads "
            "text needs one for each image. Give them in one of three ways: a metadata.jsonl in the image folder, "
            'with a line {"file_name": "1.png", "text": "..."} for each image; a text file beside each image '
            "(1.txt beside 1.png); or images in folders named by what they show, with or without "
            'data.caption_template="a photo of a {}".'
        )
    return tuple(names[label] for label in image_set.labels)
