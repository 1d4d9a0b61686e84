// The search runs in a worker. A browser starts no worker from a page that was opened as a file, so there the script of
// the worker runs in a hidden frame. The frame and the page exchange the same messages as a worker and a page.
(() => {
  if (location.protocol !== "file:") return;

  // As with a worker, a message is a copy, and arrives after the sender has finished its work.
  const later = (data, receive) => {
    const copy = structuredClone(data);
    setTimeout(() => receive(new MessageEvent("message", { data: copy })));
  };

  class FrameWorker extends EventTarget {
    constructor(address) {
      super();
      this.onmessage = this.onerror = this.onmessageerror = null;
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.documentElement.append(this.frame);
      const inner = this.frame.contentWindow;
      const script = document.createElement("script");
      inner.postMessage = (data) => later(data, (event) => {
        this.onmessage?.(event);
        this.dispatchEvent(event);
      });
      script.src = new URL(address, location.href).href;
      script.onload = () => {
        const waiting = this.waiting;
        this.waiting = null;
        waiting.forEach((data) => this.deliver(data));
      };
      script.onerror = (event) => this.onerror?.(event);
      inner.document.head.append(script);
    }

    deliver(data) {
      later(data, (event) => this.frame.contentWindow?.dispatchEvent(event));
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data);
      else this.deliver(data);
    }

    terminate() {
      this.frame.remove();
    }
  }

  window.Worker = FrameWorker;
})();
