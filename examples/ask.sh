#!/bin/sh
# Asks a running `bunny-cli serve` about a picture: sh examples/ask.sh examples/pictures/shapes.jpg "What is in the picture?"
server=${BUNNY_SERVER:-http://127.0.0.1:8000}
# As JSON has it: \ before \ and ", \n and \t for what they are, no other control character.
text=$(printf '%s\n' "$2" | tr -d '\000-\010\013-\037' | sed 's/[\"]/\\&/g' |
  awk '{ gsub(/\t/, "\\t"); printf "%s%s", line, $0; line = "\\n" }')
{
  printf '{"temperature": 0, "messages": [{"role": "user", "content": ['
  printf '{"type": "image_url", "image_url": {"url": "data:;base64,%s"}},' "$(base64 <"$1" | tr -d '\n')"
  printf '{"type": "text", "text": "%s"}]}]}' "$text"
} | curl -sS "$server/v1/chat/completions" -H "Content-Type: application/json" \
  -H "Authorization: Bearer ${BUNNY_KEY:-none}" -d @-
