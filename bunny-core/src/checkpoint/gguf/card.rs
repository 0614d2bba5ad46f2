//! What lies beside the files of an export, for people and for ollama.

/// The files of an export.
pub(super) struct Card<'a> {
    pub name: &'a str,
    pub text: &'a str,
    pub projector: &'a str,
    /// Whether the projector file is of the kind that every reader knows.
    pub is_mlp: bool,
    /// How far back the language model looks, where that is less than its context.
    pub window: Option<usize>,
    /// Positions of its context.
    pub context: usize,
}

impl Card<'_> {
    /// `Modelfile`, which `ollama create` reads.
    pub fn modelfile(&self) -> String {
        format!("FROM ./{}\nFROM ./{}\n", self.text, self.projector)
    }

    /// `README.md`.
    pub fn readme(&self) -> String {
        let Self {
            name,
            text,
            projector,
            context,
            ..
        } = self;
        let pictures = match self.is_mlp {
            true => {
                "Pictures that are not square: llama.cpp resizes them and pads them with another colour than \
                 the model was trained with, since this projector file is of type `mlp`, which older \
                 versions and forks read. Answers about such pictures may differ from bunny's; with \
                 `--mmproj janus_pro` they seldom do."
            }
            false => {
                "The projector file is of type `janus_pro`, which llama.cpp reads since the end of 2025: \
                 pictures that are not square are padded nearly as the model was trained. For older versions \
                 and forks, export with `--mmproj mlp`."
            }
        };
        let window = self.window.filter(|window| window < context);
        let window = window.map_or(String::new(), |window| {
            format!(
                "\nThe model looks back {window} positions, and llama.cpp lets it see all: beyond so many \
                 positions answers differ.\n"
            )
        });
        format!(
            "# {name} in GGUF\n\n\
             The language model with its tokenizer is `{text}`, the vision tower and the projector are \
             `{projector}`; both are needed. Written by `bunny-cli export gguf`.\n\n\
             ## llama.cpp\n\n\
             ```bash\n\
             llama-server -m {text} --mmproj {projector}\n\
             llama-mtmd-cli -m {text} --mmproj {projector} --jinja --temp 0 --image photo.jpg -p \"What is \
             this?\"\n\
             ```\n\n\
             `llama-mtmd-cli` needs `--jinja`, which is off there unless it is said: the prompt is a template \
             in the file.\n\n\
             ## ollama\n\n\
             ```bash\n\
             ollama create {name} -f Modelfile\n\
             ollama run {name} \"What is this? ./photo.jpg\"\n\
             ```\n\n\
             ## bunny\n\n\
             ```bash\n\
             bunny-cli chat --model {text} --image photo.jpg\n\
             ```\n\n\
             ## What is the same\n\n\
             {pictures}\n{window}"
        )
    }
}
