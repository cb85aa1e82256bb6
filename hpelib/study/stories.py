"""What each paper says that its network does, and which of the network's looks show whether it does."""

from dataclasses import dataclass

BASELINES = {  # what each paper's network is built on, and so compared with; in the papers' order
    "de_hrnet": "hrnet",
    "sadi_net": "hourglass",
    "fr_sbn": "simple_baseline",
    "ditn": "hrnet",
    "daunet": "simple_baseline",
}


@dataclass(frozen=True)
class Story:
    """One claim that a picture can speak for or against."""

    name: str  # of the picture's file
    text: str  # what the paper says, and what to look for
    looks: str  # the looks that show it, as a pattern

    @property
    def title(self) -> str:
        return self.name.replace("_", " ").capitalize()


def compared(network: str) -> list[str]:
    """`network`, after its baseline if it has one."""
    return [BASELINES[network], network] if network in BASELINES else [network]


STORIES = {
    "simple_baseline": (
        Story("stages", "From Res-stage to Res-stage maps get coarser; the deconvolutions must undo it.", r"stage\d"),
    ),
    "hourglass": (Story("stacks", "Each stack refines the heatmaps of the one before it.", r"stack\d"),),
    "hrnet": (
        Story(
            "branches",
            "The branches at the end of each stage, from high to low resolution: a fine one that keeps the place, "
            "coarse ones that know the context.",
            r"stage[23]\.branch\d|stage4\.branch0",
        ),
    ),
    "de_hrnet": (
        Story(
            "dem_gates",
            "The detail enhancement module hands each lower branch details from above and weighs them channel by "
            "channel: the first third of a curve is for the details, the rest for the branch itself. Weights that are "
            "near one half and the same for everybody: a gate that has not learnt to choose.",
            r"stage\d\.0\.dem\d",
        ),
        Story(
            "dysample_offsets",
            "DySample learns where to sample when a lower branch is brought up. Arrows that follow the body's outline "
            "are what the paper promises; lengths near zero are plain bilinear upsampling.",
            r"stage[34]\.0\.dysample\dto0",
        ),
        Story("branches", "What the branches hold at the end of each stage.", r"stage[23]\.branch\d"),
    ),
    "sadi_net": (
        Story(
            "rfm_gates",
            "The blocks of the receptive fortified module weigh the channels of their two ways together. Curves that "
            "are flat or the same for everybody: squeeze and excitation that has not learnt to choose.",
            r"rfm\d_se",
        ),
        Story(
            "global_weights",
            "The spatial fusion module lets the scales compete at every position; 1 is an even share.",
            "sfm_global",
        ),
        Story("local_weights", "Its local attention weighs positions along each column; 1 is even.", r"sfm_local\d"),
        Story(
            "learned_heatmaps",
            "The distribution learning module gives each joint a heatmap of a shape of its own. Beside it the "
            "Gaussians that all other networks learn, and what the backbone answers. (Maximum over all joints.)",
            "target|dlm_heatmaps|heatmaps",
        ),
    ),
    "fr_sbn": (
        Story(
            "context",
            "Where the global context is gathered from, stage by stage; 1 is an even share. Attention that is even "
            "everywhere is average pooling.",
            r"(stage|decoder)\d_attention",
        ),
        Story(
            "sa_mfcd",
            "SA-MFCD gates the collected features of Res-stages 1 to 3 with the spatial attention heatmaps. Where the "
            "gate is zero, nothing of them reaches the decoders.",
            r"stage[123]_sah|sa_mfcd_gate",
        ),
    ),
    "ditn": (
        Story("bones", "Bones, learned beside the joints. (Maximum over all.)", "bones|heatmaps"),
        Story(
            "transfer",
            "Each bone's features become kernels for its two joints; CAB weighs the result per joint and bone, SAB per "
            "position. CAB and SAB lie between a half and one: a half means that the paper's ReLU has closed them.",
            "kernels|cab|sab",
        ),
    ),
    "daunet": (
        Story(
            "strips",
            "Strip pooling gates features by means along rows and columns. Bars and crosses are its trace.",
            r"stage\d_block\d+_strip",
        ),
        Story(
            "rebuild",
            "SRU parts channels into informative and redundant ones, here the share of informative ones per position; "
            "CRU weighs a rich against a cheap transform of them.",
            r"up\d_[sc]ru",
        ),
        Story(
            "parts",
            "What SRU takes for informative, and what for redundant: two pictures of the same say that the parting is "
            "none.",
            r"up\d_sru_(informative|redundant)",
        ),
        Story("sge", "SGE lifts positions that resemble their group's mean.", r"up\d_sge"),
    ),
}
