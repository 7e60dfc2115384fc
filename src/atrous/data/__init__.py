"""Images and their masks: data sets, their facts and checks, augmentation, the endless stream of training samples.

Each entry of `DATASETS` is a function
`build(root, request: DataRequest, **options) -> Splits`.

Each entry of `CHECKS` is named by the code of its findings and is a function `check(survey) -> Iterator[Finding]`.

Each entry of `CONVERTERS` is a `Converter` of `atrous.data.convert.contracts`.

Each entry of `PREPARED` is a `Layout` of `atrous.data.prepare.contracts`, named as the data set in `DATASETS`.
"""

from __future__ import annotations

from atrous.core.data_source import DATASETS as DATASETS
from atrous.core.registry import Registry

CHECKS = Registry(
    "check",
    (
        ("unlisted-folder", "atrous.data.checks.folders:check_unlisted_folder"),
        ("duplicate-name", "atrous.data.checks.folders:check_duplicate_name"),
        ("name-differs-by-case", "atrous.data.checks.folders:check_name_differs_by_case"),
        ("name-differs-by-encoding", "atrous.data.checks.folders:check_name_differs_by_encoding"),
        ("image-without-mask", "atrous.data.checks.folders:check_image_without_mask"),
        ("mask-without-image", "atrous.data.checks.folders:check_mask_without_image"),
        ("empty-split", "atrous.data.checks.folders:check_empty_split"),
        ("unreadable-image", "atrous.data.checks.files:check_unreadable_image"),
        ("truncated-image", "atrous.data.checks.files:check_truncated_image"),
        ("unreadable-mask", "atrous.data.checks.files:check_unreadable_mask"),
        ("lossy-mask", "atrous.data.checks.encodings:check_lossy_mask"),
        ("colour-mask", "atrous.data.checks.encodings:check_colour_mask"),
        ("alpha-mask", "atrous.data.checks.encodings:check_alpha_mask"),
        ("multi-page-mask", "atrous.data.checks.encodings:check_multi_page_mask"),
        ("multi-page-image", "atrous.data.checks.images:check_multi_page_image"),
        ("size-mismatch", "atrous.data.checks.files:check_size_mismatch"),
        ("transposed-mask", "atrous.data.checks.files:check_transposed_mask"),
        ("interpolated-mask", "atrous.data.checks.encodings:check_interpolated_mask"),
        ("palettes-differ", "atrous.data.checks.encodings:check_palettes_differ"),
        ("instance-mask", "atrous.data.checks.encodings:check_instance_mask"),
        ("unknown-id", "atrous.data.checks.ids:check_unknown_id"),
        ("binary-255", "atrous.data.checks.binary:check_binary_255"),
        ("single-class", "atrous.data.checks.ids:check_single_class"),
        ("no-labelled-pixel", "atrous.data.checks.ids:check_no_labelled_pixel"),
        ("named-class-empty", "atrous.data.checks.ids:check_named_class_empty"),
        ("class-in-one-split-only", "atrous.data.checks.ids:check_class_in_one_split_only"),
        ("rare-class", "atrous.data.checks.learning:check_rare_class"),
        ("mostly-void", "atrous.data.checks.learning:check_mostly_void"),
        ("split-overlap", "atrous.data.checks.splits:check_split_overlap"),
        ("near-duplicate-across-splits", "atrous.data.checks.splits:check_near_duplicate_across_splits"),
        ("same-group-across-splits", "atrous.data.checks.splits:check_same_group_across_splits"),
        ("channels-differ", "atrous.data.checks.rasters:check_channels_differ"),
        ("place-mismatch", "atrous.data.checks.rasters:check_place_mismatch"),
        ("nodata", "atrous.data.checks.rasters:check_nodata"),
        ("dark-images", "atrous.data.checks.images:check_dark_images"),
        ("unused-levels", "atrous.data.checks.images:check_unused_levels"),
        ("mixed-modes", "atrous.data.checks.images:check_mixed_modes"),
        ("band-values", "atrous.data.checks.rasters:check_band_values"),
        ("ignored-ids", "atrous.data.checks.ids:check_ignored_ids"),
        ("exif-rotated", "atrous.data.checks.files:check_exif_rotated"),
        ("icc-profile", "atrous.data.checks.images:check_icc_profile"),
        ("hidden-files", "atrous.data.checks.folders:check_hidden_files"),
        ("foreign-files", "atrous.data.checks.folders:check_foreign_files"),
        ("excluded-files", "atrous.data.checks.folders:check_excluded_files"),
        ("linked-folders", "atrous.data.checks.folders:check_linked_folders"),
        ("special-files", "atrous.data.checks.folders:check_special_files"),
    ),
)

WRITTEN = "written"
"""Tag of formats that masks can be converted to."""
CONVERTERS = Registry(
    "format of annotations",
    (
        ("labelme", "atrous.data.convert.labelme:LABELME", WRITTEN),
        ("coco", "atrous.data.convert.coco:COCO", WRITTEN),
        ("cvat", "atrous.data.convert.cvat:CVAT", WRITTEN),
        ("geojson", "atrous.data.convert.geojson:GEOJSON", WRITTEN),
        ("label-studio", "atrous.data.convert.label_studio:LABEL_STUDIO"),
        ("yolo", "atrous.data.convert.yolo:YOLO"),
        ("voc", "atrous.data.convert.voc:VOC"),
        ("colours", "atrous.data.convert.colour_masks:COLOURS"),
        ("binary", "atrous.data.convert.binary_masks:BINARY"),
        ("instances", "atrous.data.convert.instance_masks:INSTANCES"),
    ),
)

PREPARED = Registry(
    "data set",
    (
        ("voc", "atrous.data.prepare.voc:VOC"),
        ("cityscapes", "atrous.data.prepare.cityscapes:CITYSCAPES"),
        ("ade20k", "atrous.data.prepare.ade20k:ADE20K"),
        ("camvid", "atrous.data.prepare.camvid:CAMVID"),
    ),
)
