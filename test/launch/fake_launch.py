# Copyright 2026 The crowdhmt_ros authors
# SPDX-License-Identifier: Apache-2.0
"""The part of `launch` and `launch_ros` that the launch files use, where those are missing."""
import sys
import types


class LaunchContext:
    def __init__(self, environment=None):
        self.launch_configurations = {}
        self.environment = dict(environment or {})


class DeclareLaunchArgument:
    def __init__(self, name, *, default_value, description, choices=None):
        assert default_value is not None
        assert description
        self.name, self.default_value, self.choices = name, default_value, choices

    def visit(self, context):
        value = context.launch_configurations.setdefault(self.name, self.default_value)
        if self.choices and value not in self.choices:
            raise RuntimeError('%s:=%s is not one of %s' % (self.name, value, self.choices))


class OpaqueFunction:
    def __init__(self, *, function):
        self.function = function

    def visit(self, context):
        return self.function(context)


class Node:
    def __init__(self, *, package, executable, namespace, parameters, remappings, arguments,
                 additional_env, output, respawn, respawn_delay):
        self.options = dict(locals())
        del self.options['self']

    def visit(self, context):
        return None


class LaunchDescription:
    def __init__(self, entities):
        self.entities = list(entities)


def modules():
    """Return the fake modules by name, for sys.modules."""
    made = {name: types.ModuleType(name)
            for name in ('launch', 'launch.actions', 'launch_ros', 'launch_ros.actions')}
    made['launch'].LaunchDescription = LaunchDescription
    made['launch'].LaunchContext = LaunchContext
    made['launch.actions'].DeclareLaunchArgument = DeclareLaunchArgument
    made['launch.actions'].OpaqueFunction = OpaqueFunction
    made['launch_ros.actions'].Node = Node
    return made


def install(monkeypatch):
    """Put the fakes where the launch files import from."""
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)


def evaluate(description, given, environment=None):
    """Return the options of each node that would start, in order."""
    context = LaunchContext(environment)
    context.launch_configurations.update(given)
    pending, started = list(description.entities), []
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, Node):
            started.append(entity.options)
        pending[:0] = entity.visit(context) or []
    return started
