"""What the four functions of ecs-ops share.

Modules beside this file are pure rules: no AWS, no clock, no environment. `ecs_ops.aws` holds the
adapters, the only place that calls AWS.
"""
