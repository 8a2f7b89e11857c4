import { useId } from "react";

/** A titled region of the page. */
export default function Card({ title, aside, className = "", children }) {
  const id = useId();
  return (
    <section className={`card ${className}`} aria-labelledby={id}>
      <header>
        <h2 id={id}>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}
