"""One record for each annotation format: its skeleton and the figures that its tables print."""

from dataclasses import dataclass

from hpelib.skeletons import COCO17, LSP14, MPII16, Skeleton


@dataclass(frozen=True)
class Format:
    """What a format of annotations decides. All figures are in percent."""

    name: str
    skeleton: Skeleton
    main_metric: str  # the leading figure of tables
    keypoint_metric: str  # the mean over keypoints that learning curves and intervals are of
    threshold_label: str  # of the curve of correct keypoints over thresholds, for axes
    columns: tuple[str, ...]  # the figures of a results table, the leading one first


FORMATS = {
    record.name: record
    for record in (
        Format(
            name="coco",
            skeleton=COCO17,
            main_metric="AP_gt",
            keypoint_metric="OKS",
            threshold_label="1 - keypoint similarity",
            columns=("AP_gt", "AP50_gt", "AP75_gt", "AR_gt", "AP_det", "OKS"),
        ),
        Format(
            name="mpii",
            skeleton=MPII16,
            main_metric="PCKh@0.5",
            keypoint_metric="PCKh@0.5",
            threshold_label="threshold / head size",
            columns=("PCKh@0.5", "PCKh@0.1", "PCKh@0.11 (legacy)", "AUC"),
        ),
        *(
            Format(
                name=name,
                skeleton=LSP14,
                main_metric="PCK@0.2",
                keypoint_metric="PCK@0.2",
                threshold_label="threshold / torso size",
                columns=("PCK@0.2",),
            )
            for name in ("lsp", "lspet")
        ),
    )
}
