"""What the four functions of ecs-ops share.

Modules beside this file are pure rules: no AWS, no clock, no environment. `ecs_ops.aws` holds the
adapters, the only place that calls AWS.
"""

import gc

# What a cold start makes, it keeps: to look through it for garbage again and again, each 2,000
# objects, takes 3 to 4 % of its time, and finds none.
gc.set_threshold(20_000, *gc.get_threshold()[1:])
