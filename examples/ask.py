# Asks a running `bunny-cli serve` about a picture; pip install openai.
#   python examples/ask.py examples/pictures/shapes.jpg "What is in the picture?"
import base64, os, sys
from openai import OpenAI

server = os.environ.get("BUNNY_SERVER", "http://127.0.0.1:8000")
picture = "data:;base64," + base64.b64encode(open(sys.argv[1], "rb").read()).decode()
content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": sys.argv[2]}]
client = OpenAI(base_url=server + "/v1", api_key=os.environ.get("BUNNY_KEY", "none"))
stream = client.chat.completions.create(
    model=client.models.list().data[0].id, messages=[{"role": "user", "content": content}], temperature=0, stream=True)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
