"""Pictures out of DICOM and NIfTI files, and nothing else of them.

`kinds` tells such files by their first bytes; `dicom` and `nifti` cut one picture out of one, through
`headers`, which parses no more of a DICOM file than is asked for, and `codestreams`, which asks a compressed
picture how large it is before anything unpacks it; `grey` turns intensities into 8 bits. `people` makes
subjects of PatientIDs under a key.

Comes in: bytes that may be anything, and often carry names, dates and numbers of people. What a header says
is in no message, log or error of this room: reasons are fixed sentences. Its libraries (pydicom, nibabel and
their decoders) are an extra, imported when the first such file comes.
"""
