# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""A made-up run in the recorder's own format, for tests of counting and drawing."""
import json
import random

NS = 1_000_000_000
START_S = 1_700_000_000
RICH, MIDDLE, LEAN = 'w32-d2-x1', 'w24-d1-x1', 'w10-d1-x0'
BYTES = {RICH: 30e6, MIDDLE: 16e6, LEAN: 8e6}
ACCURACY = {RICH: 0.93, MIDDLE: 0.9, LEAN: 0.84}


def time_message(stamp_ns):
    return {'sec': stamp_ns // NS, 'nanosec': stamp_ns % NS}


def result(stamp_ns, label, variant_id, plan_seq=1, latency_s=0.006):
    return {'topic': 'result', 'message': {
        'header': {'stamp': time_message(stamp_ns), 'frame_id': 'camera'}, 'label': label,
        'score': 0.9, 'scores': [], 'plan_seq': plan_seq, 'variant_id': variant_id,
        'placement': 'local', 'exit_index': 1, 'degraded': False,
        'capture_to_result_s': latency_s, 'queue_s': 0.0, 'infer_s': 0.005, 'offload_s': None}}


def feedback(stamp_ns, answered, superseded=(), variant_id=RICH, plan_seq=1, late=0):
    return {'topic': 'feedback', 'message': {
        'header': {'stamp': time_message(stamp_ns)}, 'window_s': 1.0, 'plan_seq': plan_seq,
        'candidate_id': variant_id, 'answered_stamps': [time_message(s) for s in answered],
        'capture_to_result_s': [0.006] * len(answered), 'late': late, 'degraded': 0,
        'superseded_stamps': [time_message(s) for s in superseded], 'energy_j': 0.05,
        'energy_source': 'estimated', 'memory_bytes': BYTES[variant_id],
        'condition': 'scenes/noon'}}


def resources(stamp_ns, battery_ratio, allotted_bytes):
    return {'topic': '/vehicle/resources', 'message': {
        'header': {'stamp': time_message(stamp_ns)}, 'battery_ratio': battery_ratio,
        'memory_allotted_bytes': allotted_bytes, 'memory_available_bytes': None,
        'cpu_load_ratio': 0.3}}


def plan(stamp_ns, plan_seq, variant_id, battery_ratio, allotted_bytes, reason):
    return {'topic': 'plan', 'message': {
        'header': {'stamp': time_message(stamp_ns)}, 'plan_seq': plan_seq,
        'choice': {'candidate_id': variant_id + '/local/onnxruntime/1t/fast',
                   'variant_id': variant_id, 'threads': 1, 'memory_mode': 'fast',
                   'accuracy': ACCURACY[variant_id], 'latency_s': 0.005, 'latency_p95_s': 0.006,
                   'memory_bytes': BYTES[variant_id], 'energy_j': 0.004,
                   'energy_source': 'estimated'},
        'reason': reason, 'violated': [], 'criteria': ['accuracy', 'energy'],
        'weights': [0.7, 0.3],
        'requirements': {'latency_budget_s': 0.02, 'memory_budget_bytes': None,
                         'accuracy_floor': 0.8, 'accuracy_weight': None},
        'snapshot': {'battery_ratio': battery_ratio, 'memory_allotted_bytes': allotted_bytes},
        'state': {'condition': 'scenes/noon'}}}


def write_run(folder, seconds=60, rate_hz=10, seed=3):
    """Write events.jsonl and frames.csv of a day of `seconds`; return both paths."""
    rng = random.Random(seed)
    events, rows = [], ['stamp_ns,label,light_band']
    seq, variant_id = 0, None
    for second in range(seconds):
        day = second / seconds
        band = 'noon' if day < 0.4 else 'afternoon' if day < 0.7 else 'dusk'
        allotted = 38e6 if day < 0.35 else 20e6 if day < 0.65 else 12e6
        battery = 0.9 - 0.75 * day
        wanted = RICH if day < 0.35 else MIDDLE if day < 0.7 else LEAN
        base = (START_S + second) * NS
        events.append(resources(base, battery, allotted))
        if wanted != variant_id:
            variant_id, seq = wanted, seq + 1
            events.append(plan(base + 10, seq, variant_id, battery, allotted,
                               '%s fits the allotment and the battery asks for less' % variant_id))
        stamps = [base + 50_000_000 + i * NS // rate_hz for i in range(rate_hz)]
        for stamp in stamps:
            rows.append('%d,car,%s' % (stamp, band))
            label = 'car' if rng.random() < ACCURACY[variant_id] else 'bicycle'
            events.append(result(stamp, label, variant_id, seq, 0.004 + 0.004 * rng.random()))
        events.append(feedback(base + NS, stamps, (), variant_id, seq))
    (folder / 'events.jsonl').write_text(''.join(json.dumps(e) + '\n' for e in events))
    (folder / 'frames.csv').write_text('\n'.join(rows) + '\n')
    return folder / 'events.jsonl', folder / 'frames.csv'
