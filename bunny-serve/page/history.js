// Conversations, kept by the browser (IndexedDB, since pictures are larger than localStorage allows).

let opened = null;

function database() {
  opened ??= new Promise((done, failed) => {
    const request = indexedDB.open("bunny", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("chats", { keyPath: "id" });
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
  return opened;
}

async function inStore(mode, act) {
  const transaction = (await database()).transaction("chats", mode);
  const request = act(transaction.objectStore("chats"));
  return new Promise((done, failed) => {
    transaction.oncomplete = () => done(request.result);
    transaction.onerror = transaction.onabort = () => failed(transaction.error);
  });
}

/** All conversations, the latest first. */
export async function chats() {
  const all = await inStore("readonly", (store) => store.getAll());
  return all.sort((a, b) => b.updated - a.updated);
}

export const load = (id) => inStore("readonly", (store) => store.get(id));
export const store = (chat) => inStore("readwrite", (store) => store.put(chat));
/** Stores a conversation anew, unless it is no longer there: another tab may have deleted it, too. */
export const storeAgain = (chat) => inStore("readwrite", (store) => {
  const there = store.getKey(chat.id);
  there.onsuccess = () => { if (there.result !== undefined) store.put(chat); };
  return there;
});
export const remove = (id) => inStore("readwrite", (store) => store.delete(id));
