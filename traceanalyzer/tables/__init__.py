"""Events become tables of steps, actions, receives, collectives and routing on one clock."""
