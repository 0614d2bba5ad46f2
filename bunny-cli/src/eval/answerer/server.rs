//! A server that speaks OpenAI's chat completions.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, mpsc};
#[cfg(feature = "hub")]
use std::time::Duration;

#[cfg(feature = "hub")]
use anyhow::Context;
use anyhow::{Result, bail};
use bunny_eval::picture::data_url;
use bunny_eval::run::{Answerer, Asked, Model, Options, Reply};
use bunny_eval::{EvalError, Failure};
use serde_json::{Value, json};

/// A server, and which of its models.
#[derive(Debug, Clone)]
pub struct Server {
    url: String,
    #[cfg(feature = "hub")]
    key: Option<String>,
    model: String,
    /// Questions that are under way together.
    at_once: usize,
}

/// How often a question is asked that a server has no time for.
#[cfg(feature = "hub")]
const TRIES: u32 = 5;

impl Server {
    /// A server by its address, with or without `/v1`; without a model's name its first.
    ///
    /// # Errors
    /// When it does not answer, or has no model.
    pub fn new(url: &str, model: Option<&str>, at_once: usize) -> Result<Self> {
        let url = url.trim_end_matches('/');
        let url = url.strip_suffix("/chat/completions").unwrap_or(url);
        let url = match url.ends_with("/v1") {
            true => url.to_owned(),
            false => format!("{url}/v1"),
        };
        let mut server = Self {
            url,
            #[cfg(feature = "hub")]
            key: std::env::var("OPENAI_API_KEY")
                .ok()
                .filter(|key| !key.is_empty()),
            model: String::new(),
            at_once,
        };
        server.model = match model {
            Some(model) => model.to_owned(),
            None => server.first_model()?,
        };
        Ok(server)
    }

    fn first_model(&self) -> Result<String> {
        let told = self.call("models", None)?;
        match told["data"][0]["id"].as_str() {
            Some(id) => Ok(id.to_owned()),
            None => bail!("{}/models names no model: say which with --model", self.url),
        }
    }

    /// What the server says to a request.
    #[cfg(feature = "hub")]
    fn call(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        let address = format!("{}/{path}", self.url);
        let mut wait = Duration::from_millis(500);
        for tried in 1.. {
            let answer = self.send(&address, body);
            let failed = match answer {
                Ok((200, text)) => {
                    return serde_json::from_str(&text)
                        .with_context(|| format!("{address}: its answer is no JSON"));
                }
                Ok((status, text)) => {
                    let text: String = text.chars().take(300).collect();
                    let error = anyhow::anyhow!("{address}: status {status}: {}", text.trim());
                    if status != 429 && status < 500 {
                        return Err(error);
                    }
                    error
                }
                Err(error) => anyhow::Error::from(error).context(address.clone()),
            };
            if tried == TRIES {
                return Err(failed);
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        unreachable!("the last try returns")
    }

    #[cfg(feature = "hub")]
    fn send(&self, address: &str, body: Option<&Value>) -> Result<(u16, String), ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let bearer = self.key.as_ref().map(|key| format!("Bearer {key}"));
        let mut answer = match body {
            None => {
                let mut request = agent.get(address);
                if let Some(bearer) = &bearer {
                    request = request.header("authorization", bearer);
                }
                request.call()?
            }
            Some(body) => {
                let mut request = agent
                    .post(address)
                    .header("content-type", "application/json");
                if let Some(bearer) = &bearer {
                    request = request.header("authorization", bearer);
                }
                request.send(body.to_string())?
            }
        };
        Ok((
            answer.status().as_u16(),
            answer.body_mut().read_to_string()?,
        ))
    }

    #[cfg(not(feature = "hub"))]
    fn call(&self, _path: &str, _body: Option<&Value>) -> Result<Value> {
        bail!(
            "{}: servers are not built in: build with `--features hub`",
            self.url
        )
    }

    fn ask(&self, asked: &Asked, options: &Options) -> Result<Reply> {
        let pictures = asked
            .pictures
            .iter()
            .map(|picture| json!({"type": "image_url", "image_url": {"url": data_url(picture)}}));
        let mut content: Vec<Value> = pictures.collect();
        content.push(json!({"type": "text", "text": asked.prompt}));
        let body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": options.max_new_tokens,
            "temperature": 0,
        });
        let told = self.call("chat/completions", Some(&body))?;
        let choice = &told["choices"][0];
        let Some(text) = choice["message"]["content"].as_str() else {
            bail!(
                "{}: there is no choices[0].message.content in {told}",
                self.url
            );
        };
        Ok(Reply {
            text: text.to_owned(),
            tokens: told["usage"]["completion_tokens"].as_u64().unwrap_or(0) as usize,
            is_cut: choice["finish_reason"] == "length",
        })
    }
}

impl Answerer for Server {
    fn model(&self) -> Model {
        Model {
            name: super::short_name(&self.model).to_owned(),
            fingerprint: format!("{} {}", self.url, self.model),
        }
    }

    fn answer(
        &mut self,
        asked: Vec<Asked>,
        options: &Options,
        done: &mut dyn FnMut(usize, Reply) -> Result<(), EvalError>,
    ) -> Result<(), Failure> {
        let waiting = Mutex::new(VecDeque::from(asked));
        let (told, heard) = mpsc::channel();
        let next = || {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.pop_front()
        };
        std::thread::scope(|scope| {
            for _ in 0..self.at_once {
                let (told, server) = (told.clone(), &*self);
                scope.spawn(move || {
                    while let Some(asked) = next() {
                        let reply = server.ask(&asked, options);
                        // Whoever listened may have had enough.
                        if told.send((asked, reply)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(told);
            for (asked, reply) in heard {
                let handed = reply
                    .map_err(|error| Failure::from(format!("{}: {error:#}", asked.told())))
                    .and_then(|reply| Ok(done(asked.place, reply)?));
                if handed.is_err() {
                    waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .clear();
                    return handed;
                }
            }
            Ok(())
        })
    }
}

#[cfg(all(test, feature = "hub"))]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::{TcpListener, TcpStream};

    use bunny_eval::QuestionId;

    use super::*;

    /// Answers one request as `reply` says.
    fn serve(stream: TcpStream, reply: &dyn Fn(&str, &Value) -> (u16, Value)) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let path = line.split(' ').nth(1).unwrap().to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).unwrap();
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let (status, told) = reply(&path, &serde_json::from_slice(&body).unwrap_or_default());
        let told = told.to_string();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{told}",
            told.len()
        )
        .unwrap();
    }

    /// A server of `requests` requests, and its address.
    fn server(
        requests: usize,
        reply: impl Fn(&str, &Value) -> (u16, Value) + Send + 'static,
    ) -> (String, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().take(requests) {
                serve(stream.unwrap(), &reply);
            }
        });
        (url, thread)
    }

    fn asked(place: usize) -> Asked {
        Asked {
            place,
            id: QuestionId::Number(place as i64),
            prompt: format!("Question {place}?"),
            pictures: vec![(*b"\x89PNG....").into()],
            picture_names: Vec::new(),
        }
    }

    fn options() -> Options {
        Options {
            max_new_tokens: 7,
            more: Default::default(),
        }
    }

    #[test]
    fn a_server_gets_the_picture_and_the_question_and_is_asked_again_when_busy() {
        let tries = Mutex::new(0);
        let (url, thread) = server(6, move |path, body| {
            if path == "/v1/models" {
                return (200, json!({"data": [{"id": "org/first"}]}));
            }
            assert_eq!(path, "/v1/chat/completions");
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            if *tries == 2 {
                return (503, json!({"error": "busy"}));
            }
            assert_eq!(
                (&body["model"], &body["max_tokens"]),
                (&json!("org/first"), &json!(7))
            );
            let content = &body["messages"][0]["content"];
            let url = content[0]["image_url"]["url"].as_str().unwrap();
            assert!(url.starts_with("data:image/png;base64,"), "{url}");
            let text = content[1]["text"].as_str().unwrap();
            (
                200,
                json!({
                    "choices": [{"message": {"content": format!("to {text}")}, "finish_reason": "length"}],
                    "usage": {"completion_tokens": 7},
                }),
            )
        });
        let mut server = Server::new(&url, None, 3).unwrap();
        assert_eq!(server.model().name, "first");
        let mut told = Vec::new();
        server
            .answer(
                (0..4).map(asked).collect(),
                &options(),
                &mut |place, reply| {
                    assert!(reply.is_cut && reply.tokens == 7);
                    told.push((place, reply.text));
                    Ok(())
                },
            )
            .unwrap();
        thread.join().unwrap();
        told.sort();
        let expected: Vec<_> = (0..4)
            .map(|at| (at, format!("to Question {at}?")))
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_a_server_refuses_is_told_with_the_question() {
        let (url, thread) = server(1, |_, _| (400, json!({"error": "no such model"})));
        let mut server = Server::new(&format!("{url}/v1/"), Some("m"), 1).unwrap();
        let error = server
            .answer(vec![asked(5)], &options(), &mut |_, _| Ok(()))
            .unwrap_err()
            .to_string();
        thread.join().unwrap();
        assert!(
            error.starts_with("question_id 5: ")
                && error.contains("status 400")
                && error.contains("no such model"),
            "{error}"
        );
    }
}
