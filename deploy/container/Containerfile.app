# An author's image: perdure, and the app.
ARG PERDURE=perdure:0.1.0
FROM ${PERDURE}
COPY . /app
