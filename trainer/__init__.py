"""Offline training: snapshot -> SFT -> reward model -> PPO -> gate -> publish."""
