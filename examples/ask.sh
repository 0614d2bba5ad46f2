#!/bin/sh
# Asks a running `bunny-cli serve` about a picture: sh examples/ask.sh examples/pictures/shapes.jpg "What is in the picture?"
server=${BUNNY_SERVER:-http://127.0.0.1:8000}
{
  printf '{"temperature": 0, "messages": [{"role": "user", "content": ['
  printf '{"type": "image_url", "image_url": {"url": "data:;base64,%s"}},' "$(base64 "$1" | tr -d '\n')"
  printf '{"type": "text", "text": "%s"}]}]}' "$2"
} | curl -sS "$server/v1/chat/completions" -H "Content-Type: application/json" -d @-
