// The calculator of the page Sizing: the estimate of `svcdns check --size`.
(() => {
  // The figures of svcdns/inspection/size.py, in octets.
  const BASE = 66060288, SERVICE = 3000, ENDPOINT = 120, WORKER = 27262976;

  const estimate = (services, endpoints, workers) => {
    const objects = services * SERVICE + Math.max(0, endpoints - services) * ENDPOINT;
    const half = Math.floor(objects / 2);
    const expected = BASE + objects + (workers - 1) * (WORKER + half);
    return [expected, ((expected + WORKER + half) * 6) / 5].map((octets) => Math.floor(octets / 1048576));
  };

  const place = document.getElementById("size");
  place.innerHTML = `<form class="size">
    <label>Services <input name="services" type="number" min="0" max="999999" value="5000"></label>
    <label>Endpoints <input name="endpoints" type="number" min="0" max="9999999" value="20000"></label>
    <label>Workers <input name="workers" type="number" min="1" max="999" value="1"></label>
    <output aria-live="polite"></output></form>`;
  const form = place.firstElementChild;
  const show = () => {
    const numbers = ["services", "endpoints", "workers"].map((name) => form.elements[name]);
    const wrong = numbers.find((field) => field.value === "" || !field.checkValidity());
    const [expected, limit] = estimate(...numbers.map((field) => Number(field.value)));
    form.querySelector("output").innerHTML = wrong
      ? `${wrong.name}: a whole number from ${wrong.min} to ${wrong.max} is expected.`
      : `Expected: <strong>${expected} MiB</strong>. Memory limit: at least <strong>${limit} MiB</strong>.`;
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  show();
})();
