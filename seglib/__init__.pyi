from . import (
    annotations,
    augment,
    balance,
    checks,
    classes,
    compressing,
    datasets,
    deploying,
    encoders,
    images,
    learning,
    losses,
    masks,
    models,
    optimizers,
    plots,
    predicting,
    preparing,
    recipes,
    reports,
    runs,
    scenes,
    splitting,
    submissions,
    system,
    training,
)
from .augment import Augmentation, augment_pair
from .balance import (
    apply_method,
    class_weights,
    count_pixels,
    image_weights,
    measure_split,
    oversample_patches,
    recommend_balance,
    score_colors,
    weight_table,
)
from .checks import check_dataset
from .classes import ClassTable, create_class_table, read_class_table
from .compressing import drop_int8, prune, prune_channels, simulate_int8
from .datasets import Dataset, open_arrays, open_dataset
from .deploying import compare_exports, export, load_predictor, predict_video
from .images import DatasetError, read_image, resize_image
from .masks import (
    closest_labels,
    find_closest_labels_vectorized,
    find_invented,
    label_colors,
    read_labels,
    resize_labels,
    sharpen_boundaries,
)
from .models import (
    create_deeplabv3plus_model,
    create_fcn_model,
    create_model,
    create_segnet_model,
    create_unet_model,
    create_unetpp_model,
    reweight_classes,
)
from .optimizers import AdamW, Muon
from .predicting import (
    combine_scales,
    evaluate,
    predict,
    predict_heads,
    predict_probabilities,
    separate_instances,
)
from .recipes import Recipe, get_preset
from .reports import create_report
from .runs import list_runs, load_model
from .submissions import (
    decode_rle,
    encode_rle,
    predict_folder,
    predict_out_of_fold,
    read_submission,
    write_submission,
)
from .training import rehearse_kill, train
