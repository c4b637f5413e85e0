"""What call apps show of us, for those who know no sound server."""

MICROPHONE_NAME = "Denoised Microphone"
SPEAKERS_NAME = "Denoised Speakers"
