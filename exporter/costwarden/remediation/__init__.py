"""From alert to script: intake, queue, guard, runner, journal."""
