# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""
Labelled data in the layouts that users have, for training and benches (P IV-A, T1..T4; offline).

`open_dataset(path, split='train')` recognises the layout and returns a `LabelledSet`.

=================  =================================================  ===========================
layout             what it looks like                                 splits, groups
=================  =================================================  ===========================
images_by_class    DIR/CLASS/*.jpg, DIR/{train,val,test}/CLASS/*.jpg  its folders; none
cifar              data_batch_1..5.bin, test_batch.bin, names;        train, test; none
                   train.bin, test.bin, names (CIFAR-100)
images_npz         blob, offsets, y, classes                          what its name says; none
imagenet           train/nXXXXXXXX/*.JPEG, val/ by folder or flat     train, val; none
uci_har            train/Inertial Signals/*_train.txt, y_train.txt,   train, test; subjects
                   subject_train.txt, activity_labels.txt
har_npz            X, scale, y, subject, labels                       by subject
esc                audio/*.wav, meta/esc50.csv                        by fold
esc_npz            blob (FLAC), offsets, y, classes, fold, rate_hz    by fold
statefarm          imgs/train/c0..c9/*.jpg, driver_imgs_list.csv      by subject
=================  =================================================  ===========================

Images are uint8 (height, width, 3) in RGB, inertial windows float32 (samples, channels), sounds
float32 log-mel spectrograms (1, bands, frames). What is wrong with a data set comes in one
`DataError`; single unreadable items are skipped and listed, up to a tenth of them.
"""
from crowdhmt_ros.datasets.dataset import InputKind, LabelledSet, Skipped
from crowdhmt_ros.datasets.groups import hold_out, leave_out
from crowdhmt_ros.datasets.logmel import LogMel
from crowdhmt_ros.datasets.opening import LAYOUTS, open_dataset

__all__ = ['LAYOUTS', 'InputKind', 'LabelledSet', 'LogMel', 'Skipped', 'hold_out', 'leave_out',
           'open_dataset']
